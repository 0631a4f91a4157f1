from clipzoo.cli.make_pairs import main

if __name__ == "__main__":
    main()
