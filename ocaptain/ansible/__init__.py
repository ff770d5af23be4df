"""Everything between Python and Ansible.

::

    content.py      the directory of playbooks, roles and plugins (packaged, or the checkout)
    invocation.py   a run of a playbook, as data
    runner.py       the only module that imports ansible_runner
    access.py       shared by our plugins: the endpoint, errors as Ansible results
    selection.py    what of a playbook may be left out
    targets.py      how the captain reaches a host of an inventory
    hosts.py        inventory hosts of sprites
    failures.py     why a task failed, in one line for the record
    become.py       the password dialogue of become
    mesh.py, tree.py, voyage.py   the work of the actions mesh_key, tree and voyage
"""
