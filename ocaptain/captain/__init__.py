"""The captain: the coordinator of one voyage.

::

    process.py    in the background, one at a time (flock), pid file; __main__.py is what runs there
    captain.py    the voyage's life: reconcile, one actor a ship, ticks, final verify
    ship.py       a ship's actor: channel up, claim, start, outcome, again
    channel.py    hello, records in order, commands and their results
    landing.py    from an offered bundle to a moved branch
    cargo.py      bundles for ships: each made and hashed once
    leases.py     when a silent ship loses its task (pure)
    rescue.py     before the fleet goes: stop agents, fetch what they were at
    transport.py  the seam to ships: Sprites exec and fs
    ssh.py        the other way to a ship: ssh to a host of an inventory
"""
