from clipzoo.cli.baselines import main

if __name__ == "__main__":
    main()
