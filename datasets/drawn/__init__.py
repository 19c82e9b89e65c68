"""How the synthetic faces are drawn: people, their action units, the rig of a face, its relief and its colours."""
