from clipzoo.cli.models import main

if __name__ == "__main__":
    main()
