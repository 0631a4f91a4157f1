from clipzoo.cli.schema import main

if __name__ == "__main__":
    main()
