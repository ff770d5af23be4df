"""The ship-side program: takes tasks, runs the agent, offers the work.

Standard library only; travels as one zipapp (:mod:`ocaptain.worker.build`, which stays at
home). Several programs in one::

    worker serve       the service: obeys the captain on a unix socket, keeps the journal
    worker channel     joins stdin and stdout to that socket: what the captain's exec runs
    worker launcher    runs in tmux and forks a supervisor for each attempt, which outlives worker and captain
    worker keep        runs the service where no service manager is: start, stop, status
    worker leave       removes everything of ours from a host that is given back

On the ship's disk, below its home::

    voyage/workspace    the agent's clone
    voyage/artifacts    spec.md, verify.sh
    voyage/logs         output of each attempt
    .ocaptain/          worker.pyz, tmux.conf, and the worker's own state:
        git/            the worker's git directory, which no agent works in
        attempts/<token>/   task.json, prompt.md, job.json, supervisor.json, exit.json
        in/ out/        bundles on their way
        journal/ state.json worker.sock launcher.sock news.sock
"""
