"""Everything between Python and Ansible.

::

    content.py      where playbooks, roles and plugins are (packaged, or the checkout)
    invocation.py   what is run, as data
    runner.py       the one place that imports ansible_runner
    access.py       what our plugins share: the endpoint, errors as Ansible results
    targets.py      from a host of an inventory to how the captain reaches it
    voyage.py, sprite.py, tree.py   what the actions of these names do
"""
