from clipzoo.cli.make_sample_data import main

if __name__ == "__main__":
    main()
