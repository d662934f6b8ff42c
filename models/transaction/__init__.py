"""The machine as transactions: SystemC-style modules and channels in integer cycles."""
