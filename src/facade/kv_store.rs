//! `KVStore`: values by name, one name space per run.
//!
//! A stateless view: the only field is the handle to the database. A single operation is the engine's single
//! operation, with no transaction around it, and the value is encoded straight into the memory of the version that
//! the engine links; so what this view adds to a raw put is the encoding and nothing more. Several values read
//! together ([`KVStore::get_many`], [`KVStore::list`]) come from one snapshot.
//!
//! Inside a transaction the same operations are there twice: [`KVTransaction`] for transactions that touch nothing
//! else, and [`KVStoreExt`] on any [`Transaction`], for those that combine several views.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::transaction::Transaction;
use crate::types::{RunId, TypeTag};
use crate::value::Value;

/// Values by name, in a name space of each run.
///
/// ```
/// use std::sync::Arc;
/// use unlatched::{Database, KVStore, RunId, Value};
///
/// let store = KVStore::new(Arc::new(Database::in_memory()?));
/// let run = RunId::new();
/// store.put(&run, "colour/sky", Value::from("blue"))?;
/// store.put(&run, "colour/grass", Value::from("green"))?;
///
/// assert_eq!(store.get(&run, "colour/sky")?, Some(Value::from("blue")));
/// assert_eq!(store.list(&run, Some("colour/"))?, ["colour/grass", "colour/sky"]);
/// assert!(store.delete(&run, "colour/sky")?);
/// assert!(!store.exists(&run, "colour/sky")?);
/// # Ok::<(), unlatched::Error>(())
/// ```
///
/// A key of more than 29 bytes of UTF-8 costs one more allocation in each operation
/// ([long keys](crate::Database#long-keys)).
#[derive(Clone, Debug)]
pub struct KVStore {
    database: Arc<Database>,
}

impl KVStore {
    /// Returns a view of `database`; any number of views may share it.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// Returns the newest value of `key`, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`] and [`Error::KeyTooLong`] for a key that cannot be; [`Error::Closed`] after shutdown;
    /// [`Error::InvalidValue`] if the stored bytes are no value. Every method here that takes a key may fail so.
    #[inline]
    pub fn get(&self, run: impl Borrow<RunId>, key: &str) -> Result<Option<Value>> {
        let key = key.as_bytes();
        let found = self
            .database
            .get_tagged(run.borrow(), TypeTag::KV, key, |bytes, _| Value::decode(bytes))?;
        found.transpose()
    }

    /// Stores `value` under `key`, over whatever was there.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get); [`Error::ValueTooLarge`] if the value has too many bytes, and
    /// [`Error::InvalidOperation`] if it nests deeper than [`MAX_VALUE_DEPTH`](crate::MAX_VALUE_DEPTH).
    #[inline]
    pub fn put(&self, run: impl Borrow<RunId>, key: &str, value: Value) -> Result<()> {
        let len = value.measure()?;
        let fill = |bytes: &mut [u8]| value.encode(bytes);
        self.database
            .put_tagged(run.borrow(), TypeTag::KV, key.as_bytes(), len, fill)?;
        Ok(())
    }

    /// Removes `key`, and says whether it had a value.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[inline]
    pub fn delete(&self, run: impl Borrow<RunId>, key: &str) -> Result<bool> {
        self.database.delete_tagged(run.borrow(), TypeTag::KV, key.as_bytes())
    }

    /// Says whether `key` has a value, without decoding it.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[inline]
    pub fn exists(&self, run: impl Borrow<RunId>, key: &str) -> Result<bool> {
        let found = self
            .database
            .get_tagged(run.borrow(), TypeTag::KV, key.as_bytes(), |_, _| ())?;
        Ok(found.is_some())
    }

    /// Says whether `key` has a value; another name of [`exists`](Self::exists).
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[inline]
    pub fn contains(&self, run: impl Borrow<RunId>, key: &str) -> Result<bool> {
        self.exists(run, key)
    }

    /// Returns the values of `keys` at one moment, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), for any of the keys.
    pub fn get_many(&self, run: impl Borrow<RunId>, keys: &[&str]) -> Result<Vec<Option<Value>>> {
        let snapshot = self.database.snapshot()?;
        let run = run.borrow();
        let read = |key: &&str| {
            let found = snapshot.get_tagged(run, TypeTag::KV, key.as_bytes(), |bytes, _| Value::decode(bytes))?;
            found.transpose()
        };
        keys.iter().map(read).collect()
    }

    /// Returns the values that `keys` have at one moment, by name; a key without a value is left out.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), for any of the keys.
    pub fn get_many_map(&self, run: impl Borrow<RunId>, keys: &[&str]) -> Result<HashMap<String, Value>> {
        let values = self.get_many(run, keys)?;
        let entries = keys.iter().zip(values);
        Ok(entries
            .filter_map(|(key, value)| Some(((*key).to_owned(), value?)))
            .collect())
    }

    /// Returns the names that have a value and start with `prefix`, in ascending order of their bytes; all names of
    /// the run without one. They are those of one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after shutdown; [`Error::InvalidValue`] if a stored name is no text.
    pub fn list(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Result<Vec<String>> {
        let snapshot = self.database.snapshot()?;
        let prefix = prefix.unwrap_or_default().as_bytes();
        snapshot
            .scan_tagged(run.borrow(), TypeTag::KV, prefix)
            .map(|(key, _)| name_of(key))
            .collect()
    }

    /// Returns what [`list`](Self::list) returns, each name with its value.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Self::list); [`Error::InvalidValue`] if stored bytes are no value.
    pub fn list_with_values(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Result<Vec<(String, Value)>> {
        let snapshot = self.database.snapshot()?;
        let prefix = prefix.unwrap_or_default().as_bytes();
        let entries = snapshot.scan_tagged(run.borrow(), TypeTag::KV, prefix);
        entries
            .map(|(key, bytes)| Ok((name_of(key)?, Value::decode(&bytes)?)))
            .collect()
    }

    /// Runs `body` in a transaction over the names of `run`: all that it writes is committed together, or nothing.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use unlatched::{Database, Error, KVStore, RunId, Value};
    /// # let store = KVStore::new(Arc::new(Database::in_memory()?));
    /// # let run = RunId::new();
    /// store.put(&run, "from", Value::from(10))?;
    /// store.transaction(&run, |txn| {
    ///     let from = txn.get("from")?.and_then(|value| value.as_i64()).unwrap_or(0);
    ///     let to = txn.get("to")?.and_then(|value| value.as_i64()).unwrap_or(0);
    ///     txn.put("from", Value::from(from - 3))?;
    ///     txn.put("to", Value::from(to + 3))
    /// })?;
    /// assert_eq!(store.get_many(&run, &["from", "to"])?, [Some(Value::from(7)), Some(Value::from(3))]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another commit wrote a key first (run it again); whatever `body` returned as an error,
    /// and then nothing was written; [`Error::Closed`] after shutdown.
    pub fn transaction<T>(
        &self,
        run: impl Borrow<RunId>,
        body: impl FnOnce(&mut KVTransaction<'_, '_>) -> Result<T>,
    ) -> Result<T> {
        self.database
            .transaction(run, |transaction| body(&mut KVTransaction { transaction }))
    }
}

/// A transaction over the names of one run, as [`KVStore::transaction`] hands it out. It sees its own writes.
#[derive(Debug)]
pub struct KVTransaction<'t, 'db> {
    transaction: &'t mut Transaction<'db>,
}

impl KVTransaction<'_, '_> {
    /// Returns the value of `key` as of the transaction's begin, or as this transaction wrote it.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::get`].
    pub fn get(&mut self, key: &str) -> Result<Option<Value>> {
        self.transaction.kv_get(key)
    }

    /// Says whether `key` has a value, without decoding it.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::get`].
    pub fn exists(&mut self, key: &str) -> Result<bool> {
        let found = self.transaction.get_tagged(TypeTag::KV, key.as_bytes(), |_| ())?;
        Ok(found.is_some())
    }

    /// Stores `value` under `key` when the transaction commits.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::put`].
    pub fn put(&mut self, key: &str, value: Value) -> Result<()> {
        self.transaction.kv_put(key, value)
    }

    /// Removes `key` when the transaction commits, and says whether it had a value.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::get`].
    pub fn delete(&mut self, key: &str) -> Result<bool> {
        self.transaction.kv_delete(key)
    }

    /// Returns the names that start with `prefix` (all of them without one), this transaction's own included, in
    /// ascending order of their bytes.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::list`].
    pub fn list(&mut self, prefix: Option<&str>) -> Result<Vec<String>> {
        let entries = self
            .transaction
            .scan_tagged(TypeTag::KV, prefix.unwrap_or_default().as_bytes())?;
        entries.into_iter().map(|(key, _)| name_of(key)).collect()
    }
}

/// [`KVStore`]'s operations on any transaction, for those that combine several views of a run.
///
/// ```
/// use unlatched::{Database, KVStoreExt, RunId, Value};
///
/// let database = Database::in_memory()?;
/// let run = RunId::new();
/// database.transaction(&run, |txn| {
///     txn.put(b"raw bytes", b"beside")?;
///     txn.kv_put("named", Value::from("values"))
/// })?;
/// # Ok::<(), unlatched::Error>(())
/// ```
pub trait KVStoreExt {
    /// Returns the value of `key` as of the transaction's begin, or as this transaction wrote it.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::get`].
    fn kv_get(&mut self, key: &str) -> Result<Option<Value>>;

    /// Stores `value` under `key` when the transaction commits.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::put`].
    fn kv_put(&mut self, key: &str, value: Value) -> Result<()>;

    /// Removes `key` when the transaction commits, and says whether it had a value.
    ///
    /// # Errors
    ///
    /// Those of [`KVStore::get`].
    fn kv_delete(&mut self, key: &str) -> Result<bool>;
}

impl KVStoreExt for Transaction<'_> {
    fn kv_get(&mut self, key: &str) -> Result<Option<Value>> {
        self.get_tagged(TypeTag::KV, key.as_bytes(), Value::decode)?.transpose()
    }

    fn kv_put(&mut self, key: &str, value: Value) -> Result<()> {
        let len = value.measure()?;
        self.put_tagged(TypeTag::KV, key.as_bytes(), len, |bytes| value.encode(bytes))
    }

    fn kv_delete(&mut self, key: &str) -> Result<bool> {
        self.delete_tagged(TypeTag::KV, key.as_bytes())
    }
}

/// Makes a stored key the name that it was.
fn name_of(key: Vec<u8>) -> Result<String> {
    String::from_utf8(key).map_err(|error| Error::InvalidValue {
        offset: error.utf8_error().valid_up_to(),
        reason: "a stored name is not UTF-8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::MAX_VALUE_DEPTH;

    fn store() -> (KVStore, RunId) {
        let database = Database::in_memory().expect("an in-memory database opens");
        (KVStore::new(Arc::new(database)), RunId::from_bytes([7; 16]))
    }

    #[test]
    fn a_value_of_every_kind_comes_back() {
        let (store, run) = store();
        let entries = HashMap::from([("name".to_owned(), Value::from("x")), ("none".to_owned(), Value::Null)]);
        let values = [
            Value::Null,
            Value::from(true),
            Value::from(i64::MIN),
            Value::from(0.5),
            Value::from("text"),
            Value::from(vec![0_u8, 255]),
            Value::from(vec![Value::Null, Value::from(1)]),
            Value::from(entries),
        ];
        for value in values {
            store.put(run, "k", value.clone()).expect("put");
            assert_eq!(store.get(run, "k").expect("get"), Some(value));
        }
    }

    #[test]
    fn null_exists_and_delete_tells() {
        let (store, run) = store();
        assert!(!store.exists(run, "k").expect("exists"));
        store.put(run, "k", Value::Null).expect("put");
        assert!(store.contains(run, "k").expect("contains"));
        assert!(store.delete(run, "k").expect("delete"));
        assert!(!store.delete(run, "k").expect("delete"));
        assert_eq!(store.get(run, "k").expect("get"), None);
    }

    #[test]
    fn runs_and_raw_bytes_do_not_meet_names() {
        let (store, run) = store();
        store.put(run, "k", Value::from(1)).expect("put");
        store.database.put(run, b"k", b"raw").expect("raw put");
        assert_eq!(store.get(RunId::from_bytes([8; 16]), "k").expect("get"), None);
        assert_eq!(store.get(run, "k").expect("get"), Some(Value::from(1)));
        assert_eq!(store.list(run, None).expect("list"), ["k"]);
    }

    #[test]
    fn names_are_listed_in_order_by_prefix() {
        let (store, run) = store();
        for (number, name) in ["b", "a/2", "a/1", "a", "ab", "é"].into_iter().enumerate() {
            store.put(run, name, Value::from(number as i64)).expect("put");
        }
        store.delete(run, "ab").expect("delete");
        assert_eq!(store.list(run, None).expect("list"), ["a", "a/1", "a/2", "b", "é"]);
        assert_eq!(store.list(run, Some("a/")).expect("list"), ["a/1", "a/2"]);
        assert_eq!(store.list(run, Some("zz")).expect("list"), Vec::<String>::new());
        let expected = [("a/1".to_owned(), Value::from(2)), ("a/2".to_owned(), Value::from(1))];
        assert_eq!(store.list_with_values(run, Some("a/")).expect("list"), expected);
    }

    #[test]
    fn many_values_are_read_in_the_order_asked() {
        let (store, run) = store();
        store.put(run, "a", Value::from(1)).expect("put");
        store.put(run, "b", Value::from(2)).expect("put");
        let values = store.get_many(run, &["b", "missing", "a"]).expect("get_many");
        assert_eq!(values, [Some(Value::from(2)), None, Some(Value::from(1))]);
        let map = store.get_many_map(run, &["b", "missing"]).expect("get_many_map");
        assert_eq!(map, HashMap::from([("b".to_owned(), Value::from(2))]));
    }

    /// Writes of a transaction are seen by itself at once, by others only when it is committed, and never if its
    /// body fails.
    #[test]
    fn a_transaction_is_all_or_nothing() {
        let (store, run) = store();
        store.put(run, "gone", Value::Null).expect("put");
        store
            .transaction(run, |txn| {
                txn.put("new", Value::from(1))?;
                assert!(txn.delete("gone")?);
                assert!(!txn.delete("gone")?);
                assert!(txn.exists("new")?);
                assert_eq!(txn.get("new")?, Some(Value::from(1)));
                assert_eq!(txn.list(None)?, ["new"]);
                assert_eq!(store.list(run, None)?, ["gone"]);
                Ok(())
            })
            .expect("commit");
        assert_eq!(store.list(run, None).expect("list"), ["new"]);

        let failed: Result<()> = store.transaction(run, |txn| {
            txn.put("never", Value::Null)?;
            Err(Error::user("changed its mind"))
        });
        assert!(matches!(failed, Err(Error::User(_))), "{failed:?}");
        assert!(!store.exists(run, "never").expect("exists"));
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let (store, run) = store();
        assert!(matches!(store.put(run, "", Value::Null), Err(Error::EmptyKey)));
        assert!(matches!(store.get(run, ""), Err(Error::EmptyKey)));
        let long = "k".repeat(crate::types::MAX_KEY_BYTES + 1);
        assert!(matches!(
            store.put(run, &long, Value::Null),
            Err(Error::KeyTooLong { .. })
        ));
        let deep = (0..MAX_VALUE_DEPTH).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(matches!(store.put(run, "deep", deep), Err(Error::InvalidOperation(_))));
        store.database.shutdown().expect("shutdown");
        assert!(matches!(store.get(run, "k"), Err(Error::Closed)));
        assert!(matches!(store.put(run, "k", Value::Null), Err(Error::Closed)));
        assert!(matches!(store.list(run, None), Err(Error::Closed)));
    }

    /// The length is known before a byte is encoded, so nothing of that size is allocated for it.
    #[test]
    #[cfg_attr(miri, ignore = "sets a quarter of a gigabyte aside")]
    fn a_value_over_the_limit_is_refused() {
        let (store, run) = store();
        let huge = Value::Bytes(vec![0; crate::types::MAX_VALUE_BYTES]);
        assert!(matches!(store.put(run, "huge", huge), Err(Error::ValueTooLarge { .. })));
        assert!(!store.exists(run, "huge").expect("exists"));
    }
}
