from clipzoo.cli.list_modules import main

main()
