from synpo_lab.cli import main

main()
