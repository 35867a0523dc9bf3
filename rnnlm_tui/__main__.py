"""`python -m rnnlm_tui` is the command `rnnlm-tui`."""

from rnnlm_tui.cli.main import main

if __name__ == "__main__":
    main()
