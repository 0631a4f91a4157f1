from clipzoo.cli.summary import main

if __name__ == "__main__":
    main()
