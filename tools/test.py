from clipzoo.cli.test import main

main()
