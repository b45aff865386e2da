"""The `tpu2gpu` command: everything that commands have in common.

- main: finds the commands of the steps, and runs one
- command: a command as click runs it, and the group of all
- flags: flags made of an options class
- terminal: what goes to standard output and standard error
- exit_codes: how errors become one line and an exit code
- completion: `tpu2gpu completion`, and what shells complete
- doctor: `tpu2gpu doctor`
"""
