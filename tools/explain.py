from clipzoo.cli.explain import main

if __name__ == "__main__":
    main()
