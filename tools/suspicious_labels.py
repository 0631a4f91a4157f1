from clipzoo.cli.suspicious_labels import main

if __name__ == "__main__":
    main()
