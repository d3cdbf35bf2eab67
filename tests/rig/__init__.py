"""The crash rig: real servers under load in both directions, ``kill -9`` at random moments, and an oracle afterwards.

``python -m tests.rig --kills 100 --database postgresql --seed 7`` prints the table and fails on any fault. ``host`` is
the app under fire, ``processes`` starts and kills it, ``load`` plays HubSpot, agents and users, ``oracle`` judges
what is left, ``mutants`` breaks the product on purpose: the rig must notice.
"""
