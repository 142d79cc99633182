//! Who has how many connections: by client address, and in all. The table is locked only when a connection comes or
//! goes. Users' connections are counted by the router.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Open connections of the node, by client address and in all.
#[derive(Debug, Default)]
pub(crate) struct Places {
    addresses: Mutex<HashMap<IpAddr, u32>>,
    all: AtomicUsize,
}

/// One counted connection of an address; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    places: Arc<Places>,
    address: IpAddr,
}

/// One counted socket of the node; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    places: Arc<Places>,
}

impl AddressPlace {
    /// Whose place it is.
    pub(crate) const fn address(&self) -> IpAddr {
        self.address
    }
}

impl Places {
    /// Counts one more connection of `address`, or says that it has `max` already.
    pub(crate) fn take_address(
        self: &Arc<Self>,
        address: IpAddr,
        max: u32,
    ) -> Option<AddressPlace> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_insert(0);
        if *count >= max {
            if *count == 0 {
                addresses.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(AddressPlace { places: Arc::clone(self), address })
    }

    /// Counts one more socket, or says that there are `max` already.
    pub(crate) fn take_socket(self: &Arc<Self>, max: usize) -> Option<SocketPlace> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= max {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(SocketPlace { places: Arc::clone(self) })
    }

    /// Open sockets.
    pub(crate) fn sockets(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Addresses with a connection.
    pub(crate) fn addresses(&self) -> usize {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut addresses = self.places.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        self.places.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_of_an_address_is_given_and_one_more_refused() {
        let places = Arc::new(Places::default());
        let address = IpAddr::from([127, 0, 0, 1]);
        let mut held: Vec<_> = (0..10).map(|_| places.take_address(address, 10).unwrap()).collect();
        assert!(places.take_address(address, 10).is_none());
        assert!(places.take_address(IpAddr::from([127, 0, 0, 2]), 10).is_some());
        held.pop();
        assert!(places.take_address(address, 10).is_some());
        drop(held);
        assert_eq!(places.addresses(), 0);
    }

    #[test]
    fn the_last_socket_is_taken_and_one_more_refused() {
        let places = Arc::new(Places::default());
        let held = (places.take_socket(2).unwrap(), places.take_socket(2).unwrap());
        assert!(places.take_socket(2).is_none());
        drop(held);
        assert_eq!(places.sockets(), 0);
    }
}
