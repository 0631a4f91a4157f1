from clipzoo.cli.grid import main

if __name__ == "__main__":
    main()
