//! Live cases that are no live_cases: what cannot be said as a story and the incidents that it must come to. Needs root and
//! Docker and fails without them. One case: `cargo xtask test --live -- NAME`.

mod live {
    mod counters;
    mod logs;
    mod names;
    mod privileges;
    mod prometheus;
    mod remains;
    mod shipped;
    mod stories;
}
