from clipzoo.cli.make_sample_data import main

main()
