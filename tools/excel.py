from clipzoo.cli.excel import main

if __name__ == "__main__":
    main()
