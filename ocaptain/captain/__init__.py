"""The captain: the coordinator of one voyage.

::

    process.py    in the background, one at a time (flock), pid file; __main__.py is what runs there
    captain.py    the voyage's life: reconcile, one actor a ship, ticks, final verify
    decide/       what to do, from data alone: whom to call (dispatch), when a silent ship loses its task (leases),
                  which lost ships are replaced (replace), what is billed (meter), how a voyage ends (finish)
    ship.py       a ship's actor: channel up, claim, start, outcome, again
    channel.py    hello, records in order, commands and their results
    landing.py    from an offered bundle to a moved branch
    cargo.py      bundles for ships: each made and hashed once
    refs.py       what the captain calls the work that it keeps
    checkout.py   the user's checkout, fast-forwarded where it is clean
    awake.py      how long ships were awake, as the provider counts
    spending.py   what agents used, from their usage and the prices
    fleet.py      runs the play that replaces lost ships
    rescue.py     before the fleet goes: stop agents, fetch what they were at
    transport.py  the seam to ships: Sprites exec and fs
    ssh.py        the other way to a ship: ssh to a host of an inventory
"""
