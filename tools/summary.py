from clipzoo.cli.summary import main

main()
