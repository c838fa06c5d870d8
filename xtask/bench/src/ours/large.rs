//! `pipe()` and `Queue` with values.

use multiprocess::pipe::{Connection, pipe};
use multiprocess::{Process, Queue, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use super::second;
use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::limit::large::{ANSWER, PLAIN, STOP, Value, value};
use crate::meter::Meter;

type Served = Result<(), RemoteError>;

/// Carries values there and back.
trait End {
    fn put(&mut self, value: Value) -> Result<(), Failure>;
    fn take(&mut self) -> Result<Value, Failure>;
}

impl End for Connection {
    fn put(&mut self, value: Value) -> Result<(), Failure> {
        Ok(self.send(value)?)
    }

    fn take(&mut self) -> Result<Value, Failure> {
        Ok(self.recv()?)
    }
}

/// To the other side, and from it.
type Queues = (Queue<Value>, Queue<Value>);

impl End for Queues {
    fn put(&mut self, value: Value) -> Result<(), Failure> {
        Ok(self.0.put(value)?)
    }

    fn take(&mut self) -> Result<Value, Failure> {
        Ok(self.1.get()?)
    }
}

pub(crate) fn typed(meter: &mut Meter) -> Measured {
    let (here, there) = pipe()?;
    measure(meter, here, there)
}

pub(crate) fn typed_queue(meter: &mut Meter) -> Measured {
    let (to, from) = (Queue::bounded(1024)?, Queue::bounded(1024)?);
    measure::<Queues>(meter, (to.clone(), from.clone()), (from, to))
}

fn measure<E>(meter: &mut Meter, mut here: E, there: E) -> Measured
where
    E: End + Serialize + DeserializeOwned + 'static,
{
    let process: Process<Served> = Process::builder().daemon(true).spawn(serve::<E>, (there,))?;
    let (plain, ask) = (value(PLAIN), value(ANSWER));
    meter.measure(|n| {
        for _ in 1..n {
            here.put(plain.clone())?;
        }
        here.put(ask.clone())?;
        here.take()?;
        Ok(())
    })?;
    here.put(value(STOP))?;
    second::finish(process)
}

fn serve<E: End>(mut end: E) -> Served {
    let served = cores::pin_second().and_then(|()| {
        loop {
            let value = end.take()?;
            match u8::try_from(value.0) {
                Ok(STOP) => return Ok(()),
                Ok(ANSWER) => end.put(value)?,
                _ => {}
            }
        }
    });
    Ok(served.map_err(std::io::Error::other)?)
}
