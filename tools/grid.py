from clipzoo.cli.grid import main

main()
