"""Entry point of the stand-in's commands and of its server: stand_in.py COMMAND ARGS..."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def main():
    command, argv = sys.argv[1], sys.argv[2:]
    folder = os.environ.get("STAND_IN_DIR")
    if command == "server":
        import pbs_daemon

        return pbs_daemon.main(argv[0])
    if not folder:
        sys.stderr.write(f"{command}: STAND_IN_DIR is not set\n")
        return 1
    import pbs_state

    pbs_state.log_call(folder, command, argv)
    if command == "mpiexec":
        import pbs_mpiexec

        return pbs_mpiexec.main(folder, argv)
    import pbs_commands

    return pbs_commands.run(folder, command, argv)


if __name__ == "__main__":
    sys.exit(main())
