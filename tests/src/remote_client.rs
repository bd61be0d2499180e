//! A client on another host: a TCP stack in this process behind a TUN device, so that the kernel has no socket of it.
//!
//! The device has an address of the range for benchmarks (RFC 2544, 198.18.0.0/15) and is removed with its user.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Cidr};

use crate::client::Outcome;
use crate::command::{OnInterrupt, run};
use crate::witness::now;

const LIMIT: Duration = Duration::from_secs(60);
/// The longest sleep of the stack: an order from the case waits no longer.
const NAP: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(5);
const BUFFER: usize = 65_536;
/// With the network's number added: the witness distinguishes connections by this port.
const PORT: u16 = 49_152;

/// Another host, on a network of its own with this one.
pub struct RemoteClient {
    link: Link,
    network: u8,
}

/// A TUN device of this process's making.
struct Link(String);

impl Link {
    fn make(name: String) -> Result<Self> {
        run(Command::new("ip").args(["tuntap", "add", "dev", &name, "mode", "tun"]), OnInterrupt::End)?;
        Ok(Self(name))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["link", "delete", &self.0]), OnInterrupt::Finish) {
            eprintln!("the device {} is left: {error:#}", self.0);
        }
    }
}

/// A request under way.
pub struct Asked {
    thread: JoinHandle<Result<Outcome>>,
    leave: Sender<()>,
}

impl RemoteClient {
    /// `number` distinguishes concurrent hosts.
    ///
    /// # Errors
    /// When the kernel gives no device.
    pub fn begin(number: u16) -> Result<Self> {
        let [_, network] = number.to_be_bytes();
        let name = format!("gmtun{network}");
        let remote = Self { link: Link::make(name.clone())?, network };
        let address = format!("{}/24", remote.this_host());
        run(Command::new("ip").args(["address", "add", &address, "dev", &name]), OnInterrupt::End)?;
        run(Command::new("ip").args(["link", "set", &name, "up"]), OnInterrupt::End)?;
        Ok(remote)
    }

    /// This host's address on the network between.
    #[must_use]
    pub fn this_host(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 1)
    }

    /// Its own address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.network, 2)
    }

    /// Sends a request to a port of this host; the connection stays until the other side ends it, or [`Asked::leave`].
    #[must_use]
    pub fn ask(self, port: u16, request: String) -> Asked {
        let (leave, left) = channel();
        let thread = std::thread::spawn(move || self.exchange(port, &request, &left));
        Asked { thread, leave }
    }

    fn exchange(self, port: u16, request: &str, left: &Receiver<()>) -> Result<Outcome> {
        let own = self.address();
        let mut device = TunTapInterface::new(&self.link.0, Medium::Ip).context("opening the device")?;
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::now());
        interface.update_ip_addrs(|addresses| {
            // An empty list takes one.
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(own, 24)));
        });
        interface.routes_mut().add_default_ipv4_route(self.this_host()).map_err(|error| anyhow!("{error}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let handle = sockets.add(Socket::new(buffer(), buffer()));
        let to = SocketAddrV4::new(self.this_host(), port);
        let from = PORT + u16::from(self.network);
        sockets
            .get_mut::<Socket>(handle)
            .connect(interface.context(), to, from)
            .map_err(|error| anyhow!("connecting: {error}"))?;
        let mut outcome = Outcome { started: now(), local: Some((IpAddr::V4(own), from)), ..Outcome::default() };
        let mut unsent = request.as_bytes();
        let deadline = Instant::now() + LIMIT.into();
        while Instant::now() < deadline {
            interface.poll(Instant::now(), &mut device, &mut sockets);
            let socket = sockets.get_mut::<Socket>(handle);
            if socket.can_send() && !unsent.is_empty() {
                let sent = socket.send_slice(unsent).map_err(|error| anyhow!("sending: {error}"))?;
                unsent = unsent.get(sent..).unwrap_or_default();
            }
            if let Some(class) = ended(socket, &mut outcome.message) {
                outcome.at = now();
                outcome.class = class.to_owned();
                part(&mut device, &mut interface, &mut sockets, handle);
                return Ok(outcome);
            }
            if left.try_recv().is_ok() {
                outcome.at = now();
                outcome.class = "CancelledError".to_owned();
                part(&mut device, &mut interface, &mut sockets, handle);
                return Ok(outcome);
            }
            let nap = interface.poll_delay(Instant::now(), &sockets).unwrap_or(NAP).min(NAP);
            wait(device.as_raw_fd(), Some(nap)).context("waiting for packets")?;
        }
        Err(anyhow!("the connection did not end within {} s", LIMIT.as_secs()))
    }
}

/// Closes, and sees the last packets off.
fn part(device: &mut TunTapInterface, interface: &mut Interface, sockets: &mut SocketSet, handle: SocketHandle) {
    sockets.get_mut::<Socket>(handle).close();
    for _ in 0..20 {
        interface.poll(Instant::now(), device, sockets);
        if !sockets.get_mut::<Socket>(handle).is_open() {
            return;
        }
        // A wait that fails ends sooner.
        let _ = wait(device.as_raw_fd(), Some(NAP));
    }
}

impl Asked {
    /// Gives up.
    pub fn leave(&self) {
        // A connection that has ended does not listen any more.
        let _ = self.leave.send(());
    }

    /// # Errors
    /// When it does not end, or the stack fails.
    pub fn ended(self) -> Result<Outcome> {
        self.thread.join().map_err(|_| anyhow!("the other host's stack panicked"))?
    }
}

/// The class that httpx raises on what this socket received, if it is complete; bytes of a response go to `answer`.
fn ended(socket: &mut Socket, answer: &mut String) -> Option<&'static str> {
    while socket.can_recv() {
        let taken = socket.recv(|bytes| (bytes.len(), String::from_utf8_lossy(bytes).into_owned()));
        answer.push_str(&taken.unwrap_or_default());
    }
    match socket.recv(|_| (0, ())) {
        Ok(()) => None,
        Err(RecvError::Finished) => Some("RemoteProtocolError"),
        // Before the handshake, too.
        Err(RecvError::InvalidState) if socket.is_active() => None,
        Err(RecvError::InvalidState) => Some("ReadError"),
    }
}
