package broker

import "github.com/cordon-mq/cordon/broker/wire"

// aliasFor gives a topic name its outbound alias on this connection: known says
// that the client has it already and the name may be left out. The alias is
// that of the name as this client spells it. 0: no alias. The outbox is locked.
func (c *conn) aliasFor(name string) (alias uint16, known bool) {
	if c.aliasMax == 0 {
		return 0, false
	}
	if alias, known = c.aliasesOut[name]; known {
		return alias, true
	}
	if len(c.aliasesOut) >= int(c.aliasMax) {
		return 0, false
	}
	if c.aliasesOut == nil {
		c.aliasesOut = make(map[string]uint16)
	}
	alias = uint16(len(c.aliasesOut) + 1)
	c.aliasesOut[name] = alias
	return alias, false
}

// aliasBytes is what a Topic Alias adds to a packet at most: the property, and
// one more byte of the properties' length.
const aliasBytes = 4

// outboundAliases is how many aliases a connection uses towards its client.
func outboundAliases(pk *wire.Connect) uint16 { return min(pk.TopicAliasMaximum, topicAliasMaximum) }
