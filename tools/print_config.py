from clipzoo.cli.print_config import main

if __name__ == "__main__":
    main()
