//! The live suite: real containers, real uvicorn and httpx, bpftrace as an independent witness, and the monitor's lines
//! against both. Needs root and Docker and fails without them. One case: `cargo xtask test --live -- NAME`.

mod live {
    mod clients;
    mod comebacks;
    mod deaths;
    mod living;
    mod names;
    mod networks;
    mod outside;
    mod privileges;
    mod published;
    mod remains;
    mod shipped;
    mod silence;
    mod starting;
    mod stops;
    mod workers;
}
