//! Arrays, their checks, and rows gathered into a plan.
