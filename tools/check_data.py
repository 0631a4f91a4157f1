from clipzoo.cli.check_data import main

if __name__ == "__main__":
    main()
