"""The ship-side program: receives tasks, runs the agent, sends its work to the captain.

Standard library only; travels as one zipapp (:mod:`ocaptain.worker.build`, which is not
part of it). Several programs in one::

    worker serve       the service: executes the captain's commands from a unix socket, writes the journal
    worker channel     connects stdin and stdout to that socket; the captain runs it by exec
    worker launcher    runs in tmux and forks a supervisor for each attempt, which outlives worker and captain
    worker keep        runs the service where no service manager is: start, stop, status
    worker leave       removes everything of ocaptain from a host

On the ship's disk, below its home::

    voyage/workspace    the agent's clone
    voyage/trial        the clone of the gate's trial, while that runs
    voyage/artifacts    spec.md, verify.sh, and what the agent leaves there for people
    voyage/logs         output of each attempt
    .ocaptain/          worker.pyz, tmux.conf, and the worker's own state:
        git/            the worker's git directory, which no agent works in; trial.git/ that of the gate's trial
        attempts/<token>/   task.json, prompt.md, job.json, supervisor.json, exit.json
        in/ out/        received bundles, bundles to send
        journal/ state.json worker.sock launcher.sock news.sock
"""
