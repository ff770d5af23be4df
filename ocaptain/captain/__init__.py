"""The captain: the coordinator of one voyage.

::

    __main__.py   the process: lock, pid file, signals, connection to the provider
    life.py       the voyage's life: reconcile, one actor for each ship, ticks, final verify
    decide/       decisions from data alone: which ships to call (dispatch), when a silent ship loses its task (leases),
                  which lost ships are replaced (replace), what is billed (meter), how a voyage ends (finish)
    pool.py       hands tasks to ships and takes them back; claim_order.py: which go last
    ship/         a ship's actor: open the channel, claim, start, outcome, and again; bundles for ships
    channel.py    hello, records in order, commands and their results; reading.py, share.py and cursors.py: how it reads
    landing/      from an offered bundle to a moved branch
    gate.py       the trial of setup and verify.sh before there is any work
    final.py      the final verify; verify_ship.py makes its ship again
    adopt.py      at the start: what is on the branch or in our refs, and not in the ledger
    records.py    saves log pieces and usage
    refs.py       the refs that hold work beside the branch
    views.py      tasks/N.json and workspace/, for the user
    checkout.py   the user's checkout, fast-forwarded if it is clean
    local.py      the user's own commits there: noticed and landed; workspace.py: git in that clone
    soundness.py, provider_watch.py   whether this machine, the repository and the provider work
    awake.py      how long ships were awake, by the provider's times
    spending.py   the cost of agents, from their usage and the prices
    fleet.py      starts the run that replaces lost ships
    rescue.py     before the fleet is destroyed: stop agents, fetch their work
    transport/    how a ship is reached: Sprites exec and files, or ssh to a host of an inventory
"""
