from clipzoo.cli.make_folds import main

if __name__ == "__main__":
    main()
