from clipzoo.cli.print_config import main

main()
