//! Arithmetic on slices for one thread, in every instruction set, each equal to its scalar twin.
