from clipzoo.cli.list_modules import main

if __name__ == "__main__":
    main()
