"""Proofs over netlists: SMT, exhaustive simulation, bounded model checking, induction."""
