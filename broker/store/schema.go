package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// SchemaVersion is the layout of keys and values that this program reads and
// writes. It rises when data written by this program could mislead an older one.
const SchemaVersion uint32 = 1

// SchemaKey is where the schema version of a store is kept.
func SchemaKey() Key { return Global().Key(KindSchema) }

// SchemaValue is how a schema version is stored.
func SchemaValue(version uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, version)
}

// checkSchema refuses data of another schema and marks an empty engine as one
// of ours.
func checkSchema(engine Engine) error {
	value, err := engine.Get(SchemaKey())
	switch {
	case errors.Is(err, ErrNotFound):
		return writeSchema(engine)
	case err != nil:
		return fmt.Errorf("read schema version: %w", err)
	case len(value) != 4:
		return fmt.Errorf("%w: the schema record is damaged", ErrSchema)
	}
	stored := binary.BigEndian.Uint32(value)
	switch {
	case stored > SchemaVersion:
		return fmt.Errorf("%w: the data has schema version %d and this program knows versions up to %d; use a newer program",
			ErrSchema, stored, SchemaVersion)
	case stored < SchemaVersion:
		return fmt.Errorf("%w: the data has schema version %d and this program knows only version %d; use an older program",
			ErrSchema, stored, SchemaVersion)
	}
	return nil
}

func writeSchema(engine Engine) error {
	empty := true
	err := engine.Scan(Prefix{}, Key{}, func(Key, []byte) bool {
		empty = false
		return false
	})
	if err != nil {
		return fmt.Errorf("look for data: %w", err)
	}
	if !empty {
		return fmt.Errorf("%w: there is data but no schema record", ErrSchema)
	}
	if err := engine.Apply([]Op{Put(SchemaKey(), SchemaValue(SchemaVersion))}); err != nil {
		return fmt.Errorf("write schema version: %w", err)
	}
	if err := engine.Sync(); err != nil {
		return fmt.Errorf("write schema version: %w", err)
	}
	return nil
}
