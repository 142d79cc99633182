//! Scripts for the lane: text in, effects out.
