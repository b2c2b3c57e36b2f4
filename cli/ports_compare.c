/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "cli/port_keys.h"
#include "cli/ports.h"

static void
add(struct ports_changes *changes, const struct port_settings *before,
	const struct port_settings *after, enum port_change_kind kind, uint32_t keys)
{
	struct port_change *c = &changes->port[changes->n++];

	*c = (struct port_change){ .kind = kind, .keys = keys, .before = before, .after = after };
	changes->removed += kind == PORT_REMOVED || kind == PORT_REPLACED;
	changes->added += kind == PORT_ADDED || kind == PORT_REPLACED;
	changes->changed += kind == PORT_CHANGED;
}

/* The ports of both lists that differ in the one way. */
static void
add_both(struct ports_changes *changes, const struct ports_config *before,
	const struct ports_config *after, enum port_change_kind kind)
{
	uint32_t fixed = port_keys_fixed();
	unsigned int i;

	for (i = 0; i < after->n; i++) {
		const struct port_settings *p = &after->port[i];
		const struct port_settings *old = ports_find(before, p->name);
		uint32_t keys = old != NULL ? port_keys_compare(old, p, false) : 0;

		if (keys != 0 && ((keys & fixed) != 0) == (kind == PORT_REPLACED))
			add(changes, old, p, kind, keys);
	}
}

void
ports_compare(const struct ports_config *before, const struct ports_config *after,
	struct ports_changes *changes)
{
	unsigned int i;

	changes->added = changes->removed = changes->changed = changes->n = 0;
	changes->switch_keys = port_keys_compare(before, after, true);
	for (i = 0; i < before->n; i++) {
		if (ports_find(after, before->port[i].name) == NULL)
			add(changes, &before->port[i], NULL, PORT_REMOVED, 0);
	}
	add_both(changes, before, after, PORT_REPLACED);
	add_both(changes, before, after, PORT_CHANGED);
	for (i = 0; i < after->n; i++) {
		if (ports_find(before, after->port[i].name) == NULL)
			add(changes, NULL, &after->port[i], PORT_ADDED, 0);
	}
}

const char *
ports_changes_text(const struct ports_changes *changes, char *text, size_t size)
{
	snprintf(text, size, "%u port%s added, %u removed, %u changed", changes->added,
		changes->added == 1 ? "" : "s", changes->removed, changes->changed);
	return text;
}
