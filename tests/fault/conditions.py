"""What befalls the machine: its clock jumps, its disk is full, its database is read-only."""


def cells(cell):
    return []
