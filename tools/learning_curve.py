from clipzoo.cli.learning_curve import main

if __name__ == "__main__":
    main()
