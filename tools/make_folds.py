from clipzoo.cli.make_folds import main

main()
