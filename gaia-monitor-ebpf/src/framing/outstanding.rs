//! Outstanding requests of a connection, shared by its two directions. The request method determines whether a response
//! has a body.
//!
//! The request direction pushes, the response direction pops. In the kernel both run at the same time on different
//! processors, so each field has exactly one writer.

/// Maximum number of outstanding requests. Clients do not pipeline deeper; beyond it responses are not followed.
pub const DEPTH: u32 = 64;

/// The method of a request, as far as it determines the body of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestMethod {
    Head,
    Connect,
    Other,
}

/// A FIFO queue of the methods of outstanding requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Outstanding {
    /// Bit n: request n (modulo 64) was a HEAD or CONNECT request. Written by the request direction, as is `requests`.
    head_requests: u64,
    connect_requests: u64,
    requests: u32,
    /// Written by the response direction, as is `upgraded`.
    responses: u32,
    /// 1: a response switched the connection to another protocol.
    upgraded: u32,
    reserved: u32,
}

impl Outstanding {
    pub const NEW: Outstanding =
        Outstanding { head_requests: 0, connect_requests: 0, requests: 0, responses: 0, upgraded: 0, reserved: 0 };

    #[inline(always)]
    pub(super) fn push(&mut self, method: RequestMethod) {
        let bit = 1u64 << (self.requests & (DEPTH - 1));
        self.head_requests =
            if method == RequestMethod::Head { self.head_requests | bit } else { self.head_requests & !bit };
        self.connect_requests =
            if method == RequestMethod::Connect { self.connect_requests | bit } else { self.connect_requests & !bit };
        self.requests = self.requests.wrapping_add(1);
    }

    /// Removes the oldest outstanding request and returns its method; `None` if the queue has overflowed. If no request
    /// was seen, the response is treated as one to a GET.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<RequestMethod> {
        let pending = self.requests.wrapping_sub(self.responses);
        if pending == 0 {
            return Some(RequestMethod::Other);
        }
        let index = self.responses & (DEPTH - 1);
        self.responses = self.responses.wrapping_add(1);
        if pending > DEPTH {
            return None;
        }
        if self.head_requests >> index & 1 == 1 {
            return Some(RequestMethod::Head);
        }
        Some(if self.connect_requests >> index & 1 == 1 { RequestMethod::Connect } else { RequestMethod::Other })
    }

    #[inline(always)]
    pub(super) fn upgrade(&mut self) {
        self.upgraded = 1;
    }

    /// True after a response switched the connection to another protocol.
    #[must_use]
    #[inline(always)]
    pub fn is_upgraded(&self) -> bool {
        self.upgraded != 0
    }

    /// True if a seen request has no response yet.
    #[inline(always)]
    pub(super) fn has_pending(&self) -> bool {
        self.requests != self.responses
    }

    /// True if any request was seen.
    #[inline(always)]
    pub(super) fn saw_request(&self) -> bool {
        self.requests != 0
    }
}
