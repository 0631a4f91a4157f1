from clipzoo.cli.train import main

main()
