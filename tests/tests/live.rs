//! Live tests that are not live cases: they cannot be expressed as a story with its incidents. Needs root and Docker and
//! fails without them. One case: `cargo xtask test --live -- NAME`.

mod live {
    mod counters;
    mod earlier;
    mod faults;
    mod logs;
    mod names;
    mod privileges;
    mod prometheus;
    mod remains;
    mod scope;
    mod shipped;
    mod start;
    mod stories;
    mod two_monitors;
}
