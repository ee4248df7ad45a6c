"""Several devices and hosts: the mesh, hosts that watch each other, stopping together."""
