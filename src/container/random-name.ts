/** Names for containers that were given none: an adjective and a thing of the house, so that a person can say them aloud. */
import { randomInt } from "node:crypto";

const adjectives = (
  "amber bold brisk calm clear crisp deep early even fair fleet fresh gentle glad golden grand green keen kind level light " +
  "lively lucid mellow merry mild neat noble patient plain proud quick quiet ready rosy round sharp shy silver smooth snug " +
  "solid spry steady still sunny swift tidy true vivid warm wide wise young"
).split(" ");

const things = (
  "agate alcove arch atlas barn basalt beacon bedrock birch bridge brook cairn canyon cedar chalk cliff clover coral cove " +
  "delta dune ember fern field fjord flint fossil gable garnet geode glacier gneiss granite grove gulf harbor heath hill " +
  "island jasper karst lagoon lantern ledge loam marble marl marsh meadow mesa moraine oak obsidian onyx opal orchard pebble " +
  "pine plain plateau pond quarry quartz reef ridge river sandstone schist shale shore slate spring stone strand terrace " +
  "tuff vale willow"
).split(" ");

const pick = (words: readonly string[]): string => words[randomInt(words.length)] ?? "plain";

/** For example `steady_basalt`. */
export function randomName(): string {
  return `${pick(adjectives)}_${pick(things)}`;
}
