from clipzoo.cli.init import main

if __name__ == "__main__":
    main()
